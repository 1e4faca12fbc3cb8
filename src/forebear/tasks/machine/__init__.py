"""What tasks ask about devices, threads, memory and processes."""
