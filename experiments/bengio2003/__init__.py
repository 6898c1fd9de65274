"""Bengio et al. 2003 on words: the models of the paper's Table 1, trained as then and as one would now."""
