"""Files of arrays, read without the framework that wrote them and without executing anything."""
