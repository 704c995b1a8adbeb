"""How the networks and the codec are computed: an interface of NumPy arrays (`base`), and torch behind it (`torch`)."""
