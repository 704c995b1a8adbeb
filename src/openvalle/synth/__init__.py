from openvalle.parallel import wait_asleep

wait_asleep()  # here, before anything of this room loads torch
