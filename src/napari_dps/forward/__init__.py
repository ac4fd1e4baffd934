"""Forward models: one file each. What happens to light between the object and the detector."""
