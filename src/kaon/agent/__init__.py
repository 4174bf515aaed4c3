"""The process inside a cloud: it observes replicas and traffic, makes its plan come true, and reports."""
