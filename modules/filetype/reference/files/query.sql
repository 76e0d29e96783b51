CREATE TABLE birds (id INTEGER PRIMARY KEY, name VARCHAR(64) NOT NULL, mass NUMERIC(6, 2));
INSERT INTO birds (id, name, mass) VALUES (1, 'bee', 2.0), (2, 'giant', 20.0);
SELECT b.name, COUNT(*) AS visits FROM birds b LEFT JOIN visits v ON v.bird_id = b.id
WHERE b.mass > 1.5 GROUP BY b.name HAVING COUNT(*) > 3 ORDER BY visits DESC LIMIT 10;
