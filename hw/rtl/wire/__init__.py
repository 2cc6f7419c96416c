"""The wire stage: Ethernet MAC interfaces, frame check sequence, IPv4 and UDP."""
