"""Three NATS servers and two replicas of the registry on this machine, from the files of a real cluster."""
