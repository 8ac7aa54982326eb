CREATE TABLE sale (product text, amount numeric(12, 2), sold_on date);
INSERT INTO sale VALUES
  ('kettle', 24.50, '2026-11-02'),
  ('kettle', 24.50, '2026-11-19'),
  ('tea pot', 18.00, '2026-11-05'),
  ('toaster', 31.00, '2026-09-30');
CREATE TABLE report (region text, since date, body jsonb, PRIMARY KEY (region, since));
