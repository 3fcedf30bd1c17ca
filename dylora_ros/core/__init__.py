"""The paper's algorithms: torch and numpy only, no ROS, no wall clock."""
