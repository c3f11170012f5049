"""What it takes to run the registry for real."""
