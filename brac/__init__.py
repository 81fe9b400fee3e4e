"""Behavior Regularized Actor Critic: offline reinforcement learning after Wu, Tucker, Nachum (2019)."""
