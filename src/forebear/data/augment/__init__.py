"""What training images go through, for a whole batch on the device."""
