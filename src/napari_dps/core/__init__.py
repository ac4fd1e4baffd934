"""The mathematics: priors, operators, likelihoods, samplers. Torch only: no files, units or Qt."""
