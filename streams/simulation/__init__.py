"""The parts of the simulator: its market, its persons' journeys, the advertising costs and the delivery of events."""
