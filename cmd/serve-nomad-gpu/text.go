package main

const whatThisIs = `serve-nomad-gpu is a device plugin of Nomad: Nomad starts it, not you.
Put this file into Nomad's plugin_dir under this name, add the block
plugin "serve-nomad-gpu" to Nomad's configuration, and restart Nomad.
-help shows that block; -list shows what the plugin would announce here.
`

const help = `Usage: serve-nomad-gpu [-list [-json] [-mode MODE] [-slices N] [-sharing HOW]
                       [-make-believe MODEL]] [-version] [-help]

A device plugin of Nomad that announces NVIDIA GPUs, whole (nvidia/gpu, as
Nomad's own plugin does) or in slices that several tasks share
(nvidia/gpu-share). Nomad starts it; by hand it tells what it would do.

  -list          print this machine's GPUs and how they would be announced
  -json          ... as JSON
  -mode          ... were this the mode in the configuration
  -slices        ... were this the number of slices
  -sharing       ... were this how slices are shared
  -make-believe  ... with one GPU of this model that there is not
  -version       print the version

Install

  1. Put this file into Nomad's plugin_dir, under the name serve-nomad-gpu.
  2. Add to the Nomad client's configuration:

       plugin_dir = "/opt/nomad/plugins"

       plugin "serve-nomad-gpu" {
         config {
           mode    = "shared"      # whole (the default), shared or ignored
           slices  = 8             # of each shared GPU, 1 to 48
           sharing = "time-slice"  # or "mps"

           gpu "0" {               # by index, UUID or PCI bus id
             mode = "whole"
           }

           nvidia_runtime     = false  # true: Docker has the nvidia runtime
           fingerprint_period = "30s"
           state_dir          = "/run/serve-nomad-gpu"
         }
       }

  3. Restart Nomad. "nomad node status -self -verbose" lists the devices.

In a job, a quarter of a GPU that has 8 slices is

       device "nvidia/gpu-share" {
         count = 2
       }

Things to know

  - Nomad's own plugin must not announce the same GPUs: Nomad would give them
    out twice. Name them in its configuration:
       plugin "nvidia" { config { ignored_gpu_ids = ["GPU-..."] } }
  - Before you change how a GPU is shared, drain the node. Tasks keep what they
    hold, and the plugin cannot see them; so it holds a GPU that was announced
    in another way since boot back as unhealthy, until the file that it names,
    announced.json in state_dir, is removed.
  - time-slice holds no task to its part of the memory: each has to by itself,
    by SERVE_GPU_MEMORY_MB. mps does, and needs nvidia-cuda-mps-control on the
    node; one MPS daemon serves the programs of one user at a time; in Docker,
    tasks need ipc_mode = "host" as well.
  - A GPU that is cut into MIG instances is announced as those, never shared.

GPUs that there are not, to try things without any

       make_believe "NVIDIA H200" {
         count  = 2
         memory = "141GiB"
         mode   = "shared"
         state  = "/tmp/gpus.json"  # {"0": {"lost": true}, "1": {"unhealthy": "XID 79"}}
       }

Exit codes: 0 all is well, 1 an error, 2 wrong flags, or not started by Nomad.
`
