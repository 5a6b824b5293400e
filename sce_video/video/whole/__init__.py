"""Is a media file whole? What its container promises, compared with the bytes that came."""
