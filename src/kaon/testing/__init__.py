"""For tests of services and drivers: fakes, stand-ins, and the contract that each driver keeps."""
