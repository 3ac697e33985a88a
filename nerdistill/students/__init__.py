"""Students: small networks, one file each."""
