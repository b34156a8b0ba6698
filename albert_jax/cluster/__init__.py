"""Many processes, one run: how they meet, what they compare, where they write."""
