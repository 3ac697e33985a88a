"""The steps of a run, in order: prepare, teach, annotate, distill, evaluate, package. Each is done once for equal inputs."""
