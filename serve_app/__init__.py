"""Traffic: guard, route, retrieve, generate, validate, record. The Ray Serve application of Treadle."""
