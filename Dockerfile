# The main job, ./run.sh, on a machine without Python:
#   docker build --tag brac .
#   docker run --rm --volume "$PWD/results_halfcheetah:/results" brac
FROM python:3.12-slim
WORKDIR /brac
COPY . .
RUN bash -euo pipefail -c 'source ./setup_env.sh'
ENTRYPOINT ["./run.sh"]
CMD ["/results"]
