"""Does a causal language model sort what it reads by task?"""
