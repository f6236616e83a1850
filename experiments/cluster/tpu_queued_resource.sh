#!/usr/bin/env bash
# One model on a TPU pod slice that is queued for:  ./tpu_queued_resource.sh NAME gs://BUCKET/RUN
# Every host of the slice runs the same command; the workdir is in object storage, for a slice has
# no shared disk. After a preemption delete the queued resource and give the command again.
set -euo pipefail

name=${1:?a name for the slice}
workdir=${2:?a workdir, as gs://bucket/run}
zone=${ZONE:-us-central2-b}
type=${TYPE:-v4-32}
version=${VERSION:-tpu-ubuntu2204-base}
repository=${REPOSITORY:?the address of a clone of hfjax}

startup=$(mktemp)
trap 'rm -f "$startup"' EXIT
cat >"$startup" <<EOS
#!/usr/bin/env bash
set -euo pipefail
[ -d /opt/hfjax ] || git clone "$repository" /opt/hfjax
cd /opt/hfjax
python3 -m venv .pdm
.pdm/bin/pip install -q "pdm[locked]"
.pdm/bin/pdm sync -q --prod -G tpu -G cloud
# 75: stopped by a signal and saved. Only the slice as a whole can begin again.
.venv/bin/python -m hfjax --fdl_config=grid_rnn --workdir="$workdir"
EOS

gcloud compute tpus queued-resources create "$name" \
    --node-id="$name" \
    --zone="$zone" \
    --accelerator-type="$type" \
    --runtime-version="$version" \
    --spot \
    --metadata-from-file="startup-script=$startup"
echo "Look: gcloud compute tpus queued-resources describe $name --zone=$zone"
echo "Stop: gcloud compute tpus queued-resources delete $name --zone=$zone --force"
