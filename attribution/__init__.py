"""The pure core: functions from values to values, with no I/O, no clock and no float for money or credit."""
