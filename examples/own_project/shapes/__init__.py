"""Your own network, loss, schedule, augmentation, metric and images, for the training of signs_dist."""
