-- Every column type, and every kind of object. Fixed times only: two dumps must be equal.
CREATE DATABASE zoo DEFAULT CHARACTER SET utf8mb4;
USE zoo;
SET time_zone = '+00:00', timestamp = 1700000000, sql_mode = '';

CREATE TABLE numbers (
  id int unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY COMMENT 'it''s "quoted"',
  a tinyint, b tinyint unsigned, c smallint, d mediumint, e int zerofill, f bigint, g bigint unsigned,
  h decimal(65,30), i float, j double, k bit(1), l bit(64), m boolean
) ENGINE=InnoDB;
INSERT INTO numbers VALUES
  (1, -128, 255, -32768, -8388608, 42, -9223372036854775808, 18446744073709551615,
   -12345678901234567890123456789012345.123456789012345678901234567890, -1.5e-30, 1.7976931348623157e308,
   b'1', b'1111111111111111111111111111111111111111111111111111111111111111', true),
  (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (3, 0, 0, 0, 0, 0, 0, 0, 0, 0, -0.0, b'0', b'0', false);

CREATE TABLE times (
  id int PRIMARY KEY, a date, b time, c time(6), d datetime, e datetime(6), f timestamp NULL, g timestamp(6) NULL, h year
) ENGINE=MyISAM;
INSERT INTO times VALUES
  (1, '0000-00-00', '-838:59:59', '838:59:58.999999', '0000-00-00 00:00:00', '9999-12-31 23:59:59.999999',
   '1970-01-01 00:00:01', '2038-01-19 03:14:07.999999', 1901),
  (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (3, '2024-02-29', '00:00:00', '00:00:00.000001', '2024-02-29 12:00:00', '2024-02-29 12:00:00.5',
   '2024-02-29 12:00:00', '2024-02-29 12:00:00.25', 0);

CREATE TABLE strings (
  id int PRIMARY KEY,
  a char(10), b varchar(300), c binary(8), d varbinary(300), e tinytext, f text, g mediumtext, h longtext,
  i tinyblob, j blob, k mediumblob, l longblob,
  m enum('', 'one', 'it''s', 'größer'), n set('a', 'b', 'c d'), o json,
  p varchar(50) CHARACTER SET latin1, q varchar(50) CHARACTER SET ucs2, r varchar(50) CHARACTER SET utf16,
  s varchar(50) CHARACTER SET sjis, t varchar(50) CHARACTER SET binary, u varchar(50) COLLATE utf8mb4_bin
) ENGINE=InnoDB;
INSERT INTO strings VALUES
  (1, 'ten', 'tab\tnew\nline\rcr\0nul\Z\\back ''q'' "qq" `b` %_;--', x'0001020304050607', x'00ff27225c0a0d1a',
   'tiny', REPEAT('text ', 1000), 'medium', REPEAT('Ünïcode 😀 ', 2000), x'00', x'ff', x'fe00', x'fbfcfdfeff',
   'it''s', 'a,c d', '{"k": ["v", null, 1.5e3, "\\u00e9"]}', 'Größe', 'Größe', '😀', '表', x'8081', 'ß'),
  (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
   NULL, NULL, NULL),
  (3, '', '', '', '', '', '', '', '', '', '', '', '', '', '', '""', '', '', '', '', '', '');

CREATE TABLE others (
  id int PRIMARY KEY, a inet4, b inet6, c uuid, d point, e geometry, f polygon, g multipoint
) ENGINE=Aria;
INSERT INTO others VALUES
  (1, '127.0.0.1', 'fe80::1', '123e4567-e89b-12d3-a456-426655440000', POINT(1.5, -2),
   ST_GeomFromText('LINESTRING(0 0, 1 1, 2 0)'), ST_GeomFromText('POLYGON((0 0, 4 0, 4 4, 0 0))'),
   ST_GeomFromText('MULTIPOINT(1 1, 2 2)')),
  (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TABLE generated (
  a int PRIMARY KEY, b int AS (a * 2) VIRTUAL, c varchar(20) AS (CONCAT('<', a, '>')) PERSISTENT, d int INVISIBLE,
  CHECK (a > 0), KEY (c)
) ENGINE=InnoDB;
INSERT INTO generated (a, d) VALUES (1, 10), (2, NULL);

CREATE TABLE parent (id int PRIMARY KEY) ENGINE=InnoDB;
CREATE TABLE child (id int PRIMARY KEY, p int, CONSTRAINT `fk 1` FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)
  ENGINE=InnoDB;
INSERT INTO parent VALUES (1), (2);
INSERT INTO child VALUES (1, 1), (2, NULL);

CREATE TABLE partitioned (id int, v varchar(10)) ENGINE=InnoDB
  PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE);
INSERT INTO partitioned VALUES (1, 'low'), (100, 'high');
CREATE TABLE compressed (id int PRIMARY KEY, v text) ENGINE=InnoDB ROW_FORMAT=COMPRESSED;
INSERT INTO compressed SELECT seq, REPEAT(seq, 200) FROM seq_1_to_200;
CREATE TABLE `empty` (id int) ENGINE=MyISAM;
CREATE TABLE narrow (id int, v char(16)) ENGINE=MyISAM;
INSERT INTO narrow SELECT seq, LPAD(seq, 16, '0') FROM seq_1_to_50000;
CREATE SEQUENCE counter START WITH 10 INCREMENT BY 5;

CREATE VIEW v_simple AS SELECT id, a FROM numbers;
CREATE ALGORITHM=TEMPTABLE SQL SECURITY INVOKER VIEW v_join AS
  SELECT n.id, s.b AS `the string` FROM numbers n JOIN strings s ON s.id = n.id;

DELIMITER //
CREATE TRIGGER numbers_bi BEFORE INSERT ON numbers FOR EACH ROW BEGIN
  IF NEW.a IS NULL THEN SET NEW.a = 0; END IF; -- a comment; with a semicolon
END//
CREATE TRIGGER child_ad AFTER DELETE ON child FOR EACH ROW INSERT INTO t001 (v) VALUES ('gone')//
CREATE PROCEDURE two_results(IN n int, OUT total int) COMMENT 'it''s' BEGIN
  SELECT id, a FROM numbers WHERE id <= n ORDER BY id;
  SELECT 'größer' AS word;
  SET total = n * 2;
END//
CREATE FUNCTION double_it(n int) RETURNS int DETERMINISTIC RETURN n * 2//
CREATE PROCEDURE `odd ``name`` "q"`() BEGIN SELECT 1; END//
CREATE EVENT cleanup ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' ON COMPLETION PRESERVE DISABLE
  DO BEGIN DELETE FROM t001 WHERE id > 1000; END//
DELIMITER ;
