"""What each method of the imbalance toolbox and of the ensemble gains or loses on data it did not see: `longtail bench training`."""
