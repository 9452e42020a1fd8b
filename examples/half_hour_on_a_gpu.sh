#!/usr/bin/env bash
# The paper's ResNet-32 on CIFAR-10 at length, for half an hour of one GPU: run it as often as you like.
#
#   DATA=~/data examples/half_hour_on_a_gpu.sh           # cifar-10-batches-bin or -py below DATA
#   LENGTH=100ep OUTPUTS=/scratch/outputs MINUTES=60 DATA=… examples/half_hour_on_a_gpu.sh
#
# Runs come in the order of their worth, one after the other, no command longer than nine minutes. What is interrupted
# goes on where it was when the script is called again, to the same numbers; what is finished is not run again. Tables
# are written after every run, so that nothing is lost when the time is over.
set -uo pipefail

: "${DATA:?the folder that holds CIFAR-10: DATA=~/data}"
LENGTH=${LENGTH:-60ep} OUTPUTS=${OUTPUTS:-outputs} MINUTES=${MINUTES:-30} DEVICE=${DEVICE:-cuda} RUN=${RUN:-run} MORE=${MORE:-}
ends=$((SECONDS + 60 * MINUTES))

one() { # OVERRIDES…: one training with its sweep, at most nine minutes of it
    local left=$((ends - SECONDS))
    ((left > 15)) || { echo "half_hour: no time left for $*"; return; }
    # shellcheck disable=SC2086
    timeout -s INT $((left < 540 ? left : 540)) $RUN train data=cifar10 data.root="$DATA" model=resnet32 device="$DEVICE" \
        schedule.length="$LENGTH" outputs="$OUTPUTS" checkpoint_minutes=1 "prune.splits=[validation,test]" $MORE "$@"
    $RUN table "$OUTPUTS" outputs="$OUTPUTS" > /dev/null
}

# The headline: 99 % of the weights, against the dense network of the same length.
one dropout=none
one dropout=ramping
one dropout=ramping dropout.scope=global "dropout.ramp=[0.6,0.6,0]" dropout.ramp_shape=cubic
# Like for like at 90 %.
one dropout=targeted dropout.alpha=0.75 dropout.gamma=0.9
one dropout=ramping dropout.gamma=0.9
one dropout=gradual_magnitude dropout.sparsity=0.9
one dropout=rigl dropout.sparsity=0.9
one dropout=targeted_unit
# Another seed of the headline.
one dropout=none seed=1
one dropout=ramping seed=1
$RUN table "$OUTPUTS" outputs="$OUTPUTS"
