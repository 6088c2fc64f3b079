"""What Hydra finds by itself: the sweeper of studies, and the launcher of trials in processes of their own."""
