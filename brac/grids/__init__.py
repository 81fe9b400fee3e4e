"""Many runs: which are asked for, how they are started, and what their numbers say."""
