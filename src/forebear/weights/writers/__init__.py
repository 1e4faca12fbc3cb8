"""Files of arrays, written as the frameworks themselves write them."""
