#!lua flags=no-writes
-- incarnation: returns the name of the Redis process that runs this.
return incarnation_of_redis()
