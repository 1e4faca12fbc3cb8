"""Data augmentation of training images, applied to a whole batch on the device."""
