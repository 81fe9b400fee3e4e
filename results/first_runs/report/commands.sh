#!/usr/bin/env bash
# The command of each run, as its folder tells it.
set -e

# Ant-v2, data eps1, 1000000 transitions
# bc of seed 0 does not tell its command

# Ant-v2, data eps3, 1000000 transitions
# bc of seed 0 does not tell its command

# Ant-v2, data gaussian1, 1000000 transitions
# bc of seed 0 does not tell its command

# Ant-v2, data gaussian3, 1000000 transitions
# bc of seed 0 does not tell its command

# Ant-v2, data pure, 1000000 transitions
# bc of seed 0 does not tell its command

# HalfCheetah-v2, data eps1, 1000000 transitions
# bc of seed 0 does not tell its command
# bcq of seed 0 does not tell its command
# bear of seed 0 does not tell its command
# kl_dual_vp of seed 0 does not tell its command
# kl_pr of seed 0 does not tell its command
# kl_pr alpha_0.1 of seed 0 does not tell its command
# kl_vp of seed 0 does not tell its command
# kl_vp alpha_0.1 of seed 0 does not tell its command
# mmd_pr of seed 0 does not tell its command
# mmd_pr alpha_10 of seed 0 does not tell its command
# mmd_vp of seed 0 does not tell its command
# sac of seed 0 does not tell its command
# w_vp of seed 0 does not tell its command

# HalfCheetah-v2, data pure, 1000000 transitions
# bc of seed 0 does not tell its command
# bcq of seed 0 does not tell its command
# bear of seed 0 does not tell its command
# kl_dual_vp of seed 0 does not tell its command
# kl_pr of seed 0 does not tell its command
# kl_pr alpha_0.1 of seed 0 does not tell its command
# kl_vp of seed 0 does not tell its command
# kl_vp alpha_0.1 of seed 0 does not tell its command
# mmd_pr of seed 0 does not tell its command
# mmd_pr alpha_10 of seed 0 does not tell its command
# mmd_vp of seed 0 does not tell its command
# sac of seed 0 does not tell its command
# w_vp of seed 0 does not tell its command

# Hopper-v2, data eps1, 1000000 transitions
# bc of seed 0 does not tell its command

# Hopper-v2, data eps3, 1000000 transitions
# bc of seed 0 does not tell its command

# Hopper-v2, data gaussian1, 1000000 transitions
# bc of seed 0 does not tell its command

# Hopper-v2, data gaussian3, 1000000 transitions
# bc of seed 0 does not tell its command

# Hopper-v2, data pure, 1000000 transitions
# bc of seed 0 does not tell its command

# Walker2d-v2, data eps1, 1000000 transitions
# bc of seed 0 does not tell its command
# bc of seed 1 does not tell its command
# bcq of seed 0 does not tell its command
# bear of seed 0 does not tell its command
# kl_dual_vp of seed 0 does not tell its command
# kl_pr of seed 0 does not tell its command
# kl_pr of seed 1 does not tell its command
# kl_pr alpha_0.1 of seed 0 does not tell its command
# kl_vp of seed 0 does not tell its command
# kl_vp alpha_0.1 of seed 0 does not tell its command
# mmd_pr of seed 0 does not tell its command
# mmd_vp of seed 0 does not tell its command
# sac of seed 0 does not tell its command
# w_vp of seed 0 does not tell its command

# Walker2d-v2, data eps3, 1000000 transitions
# bc of seed 0 does not tell its command

# Walker2d-v2, data gaussian1, 1000000 transitions
# bc of seed 0 does not tell its command

# Walker2d-v2, data gaussian3, 1000000 transitions
# bc of seed 0 does not tell its command

# Walker2d-v2, data pure, 1000000 transitions
# bc of seed 0 does not tell its command
# bc of seed 1 does not tell its command
# bcq of seed 0 does not tell its command
# bear of seed 0 does not tell its command
# kl_dual_vp of seed 0 does not tell its command
# kl_pr of seed 0 does not tell its command
# kl_pr of seed 1 does not tell its command
# kl_vp of seed 0 does not tell its command
# kl_vp alpha_0.1 of seed 0 does not tell its command
# mmd_pr of seed 0 does not tell its command
# mmd_vp of seed 0 does not tell its command
# sac of seed 0 does not tell its command
# w_vp of seed 0 does not tell its command
