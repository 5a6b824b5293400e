"""uint8 clips -> normalised views, on the device, with parameters drawn per clip."""
