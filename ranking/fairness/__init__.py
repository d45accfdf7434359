"""Who gets which places: policies, groups, exact orders under floors and ceilings, and shares kept over many lists."""
