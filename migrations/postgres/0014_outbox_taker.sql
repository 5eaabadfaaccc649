GRANT UPDATE (taker) ON outbox TO lantern_system;
