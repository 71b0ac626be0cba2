#!/usr/bin/env bash
# Submit crop.sbatch and, to run after all its jobs have ended well, merge.sbatch. Further words go to sbatch, such as
# --array=1-64 or --partition=NAME.
#
#   VIDEOS=/shared/videos BUNDLES=/shared/bundles examples/cluster/submit.sh --array=0-63
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
crop="$(sbatch --parsable --export=ALL "$@" "$here/crop.sbatch")"
sbatch --export=ALL --dependency="afterok:${crop%%;*}" "$here/merge.sbatch"
