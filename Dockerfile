# docker build -t dtx .
# docker run -v "$PWD/results:/results" dtx                      the default study, as `make run`
# docker run -v "$PWD/results:/results" dtx run dt=small seed=1  any command of dtx
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /dtx
COPY . .
RUN make .venv/.core
WORKDIR /results
ENTRYPOINT ["/dtx/.venv/bin/dtx"]
CMD ["run"]
