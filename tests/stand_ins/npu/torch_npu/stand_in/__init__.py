"""What is not of the vendor's package: how the device works here."""
