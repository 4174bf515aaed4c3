"""The tuner of each deployment at work; `kaon.laws.tune` decides."""
