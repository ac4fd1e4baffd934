"""Making a prior from images: phantoms, data, loss, schedule and the command."""
