"""A verdict on a reconstruction: what the data, the prior and the samples say of it."""
