"""What a policy makes of one list: who takes part, what each is worth, who stands where and what a click there costs."""
