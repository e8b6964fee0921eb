"""From video files and annotations to fixed-size streaming windows."""
