from openvalle.parallel import keep_few_plans, wait_asleep

wait_asleep()  # here, before anything of this room loads torch
keep_few_plans()
