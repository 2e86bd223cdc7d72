"""SQL of lists: addresses and account ids, in order, with their keysets."""
