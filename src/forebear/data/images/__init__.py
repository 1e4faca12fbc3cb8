"""Image files to pixels, and pixels to what a network takes."""
