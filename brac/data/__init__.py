"""What a transition is, the replay ring, and the formats that data come in: one file each."""
