#!/usr/bin/env bash
# The command of each run, as its folder tells it.
set -e

# Ant-v2, data eps1, 1000000 transitions
python -m brac.train_offline --gin_file=configs/bc.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=1 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Ant-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/bc.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Ant-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Ant-v2/bear.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Ant-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Ant-v2/kl_pr.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=1 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Ant-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Ant-v2/kl_pr.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Ant-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Ant-v2/kl_vp.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=1 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Ant-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Ant-v2/kl_vp.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Ant-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Ant-v2/mmd_pr.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Ant-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Ant-v2/mmd_vp.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Ant-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/sac.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Ant-v2 --data_name=eps1

# HalfCheetah-v2, data eps1, 1000000 transitions
python -m brac.train_offline --gin_file=configs/bc.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=1 --total_train_steps=200000 --n_eval_episodes=20 --env_name=HalfCheetah-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/bc.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=HalfCheetah-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/HalfCheetah-v2/bear.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=HalfCheetah-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/HalfCheetah-v2/kl_dual_vp.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=HalfCheetah-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/kl_pr.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=1 --total_train_steps=200000 --n_eval_episodes=20 --env_name=HalfCheetah-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/kl_pr.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=HalfCheetah-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/kl_vp.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=1 --total_train_steps=200000 --n_eval_episodes=20 --env_name=HalfCheetah-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/kl_vp.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=HalfCheetah-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/HalfCheetah-v2/mmd_pr.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=HalfCheetah-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/HalfCheetah-v2/mmd_vp.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=HalfCheetah-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/sac.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=HalfCheetah-v2 --data_name=eps1

# Hopper-v2, data eps1, 1000000 transitions
python -m brac.train_offline --gin_file=configs/bc.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=1 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Hopper-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/bc.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Hopper-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Hopper-v2/bear.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Hopper-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Hopper-v2/kl_pr.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Hopper-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Hopper-v2/kl_vp.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=1 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Hopper-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Hopper-v2/kl_vp.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Hopper-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Hopper-v2/mmd_pr.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Hopper-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Hopper-v2/mmd_vp.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Hopper-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/sac.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Hopper-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Hopper-v2/w_pr.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Hopper-v2 --data_name=eps1

# Walker2d-v2, data eps1, 1000000 transitions
python -m brac.train_offline --gin_file=configs/bc.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=1 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Walker2d-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/bc.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Walker2d-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/bc.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=3 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Walker2d-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Walker2d-v2/bcq.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Walker2d-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Walker2d-v2/bear.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Walker2d-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Walker2d-v2/kl_dual_pr.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Walker2d-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Walker2d-v2/kl_pr.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Walker2d-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Walker2d-v2/kl_vp.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=1 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Walker2d-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Walker2d-v2/kl_vp.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Walker2d-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Walker2d-v2/kl_vp.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=3 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Walker2d-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Walker2d-v2/mmd_pr.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Walker2d-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/tuned/Walker2d-v2/mmd_vp.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Walker2d-v2 --data_name=eps1
python -m brac.train_offline --gin_file=configs/sac.gin --root_dir=/work/long/table --data_root_dir=/work/long/data --n_train=1000000 --seed=2 --total_train_steps=200000 --n_eval_episodes=20 --env_name=Walker2d-v2 --data_name=eps1
