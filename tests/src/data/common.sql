-- What all servers know: the column types, and some objects. Fixed times only: two dumps must be equal.
CREATE DATABASE common DEFAULT CHARACTER SET utf8mb4;
USE common;
SET time_zone = '+00:00', timestamp = 1700000000, sql_mode = '';

CREATE TABLE numbers (
  id int unsigned NOT NULL PRIMARY KEY COMMENT 'it''s "quoted"',
  a tinyint, b tinyint unsigned, c smallint, d mediumint, e int, f bigint, g bigint unsigned,
  h decimal(65,30), i float, j double, k bit(1), l bit(64), m boolean
) ENGINE=InnoDB;
INSERT INTO numbers VALUES
  (1, -128, 255, -32768, -8388608, 42, -9223372036854775808, 18446744073709551615,
   -12345678901234567890123456789012345.123456789012345678901234567890, -1.5e-30, 1.7976931348623157e308,
   b'1', b'1111111111111111111111111111111111111111111111111111111111111111', true),
  (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'0', b'0', false);

CREATE TABLE times (
  id int PRIMARY KEY, a date, b time, c time(6), d datetime, e datetime(6), f timestamp NULL, g timestamp(6) NULL, h year
) ENGINE=MyISAM;
INSERT INTO times VALUES
  (1, '1000-01-01', '-838:59:59', '838:59:58.999999', '1000-01-01 00:00:00', '9999-12-31 23:59:59.999999',
   '1970-01-01 00:00:01', '2038-01-19 03:14:07.999999', 1901),
  (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (3, '2024-02-29', '00:00:00', '00:00:00.000001', '2024-02-29 12:00:00', '2024-02-29 12:00:00.5',
   '2024-02-29 12:00:00', '2024-02-29 12:00:00.25', 2155);

CREATE TABLE strings (
  id int PRIMARY KEY,
  a char(10), b varchar(300), c binary(8), d varbinary(300), e tinytext, f text, g mediumtext, h longtext,
  i tinyblob, j blob, k mediumblob, l longblob,
  m enum('', 'one', 'it''s', 'größer'), n set('a', 'b', 'c d'), o json,
  p varchar(50) CHARACTER SET latin1, q varchar(50) CHARACTER SET sjis, r varchar(50) COLLATE utf8mb4_bin
) ENGINE=InnoDB;
INSERT INTO strings VALUES
  (1, 'ten', 'tab\tnew\nline\rcr\0nul\Z\\back ''q'' "qq" `b` %_;--', x'0001020304050607', x'00ff27225c0a0d1a',
   'tiny', REPEAT('text ', 1000), 'medium', REPEAT('Ünïcode 😀 ', 2000), x'00', x'ff', x'fe00', x'fbfcfdfeff',
   'it''s', 'a,c d', '{"k": ["v", null, 1.5e3, "\\u00e9"]}', 'Größe', '表', 'ß'),
  (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (3, '', '', '', '', '', '', '', '', '', '', '', '', '', '', '""', '', '', '');

-- Packets of every length around those at which something changes: in the length of a string, of a packet that is worth
-- compressing, of a TLS record.
CREATE TABLE lengths (id int PRIMARY KEY, v mediumblob) ENGINE=InnoDB;
INSERT INTO lengths SELECT n, REPEAT(CHAR(97 + n MOD 26), n) FROM (
  SELECT 0 AS n UNION SELECT 1 UNION SELECT 49 UNION SELECT 50 UNION SELECT 51 UNION SELECT 249 UNION SELECT 250
  UNION SELECT 251 UNION SELECT 252 UNION SELECT 16379 UNION SELECT 16384 UNION SELECT 16385 UNION SELECT 65529
  UNION SELECT 65535 UNION SELECT 65536 UNION SELECT 65537) AS numbers;

CREATE TABLE many (id int PRIMARY KEY, v varchar(60)) ENGINE=InnoDB;
INSERT INTO many VALUES (0, 'first');
CREATE TABLE `empty` (id int PRIMARY KEY) ENGINE=MyISAM;
CREATE TABLE `ö "o" 表` (`c ``1``` int PRIMARY KEY, `Größe "x" 表` varchar(20)) ENGINE=InnoDB;
INSERT INTO `ö "o" 表` VALUES (1, 'it''s'), (2, NULL), (3, '\\');

CREATE TABLE parent (id int PRIMARY KEY) ENGINE=InnoDB;
CREATE TABLE child (id int PRIMARY KEY, p int, CONSTRAINT `fk 1` FOREIGN KEY (p) REFERENCES parent (id)) ENGINE=InnoDB;
INSERT INTO parent VALUES (1), (2);
INSERT INTO child VALUES (1, 1), (2, NULL);
CREATE VIEW v_join AS SELECT n.id, s.b AS `the string` FROM numbers n JOIN strings s ON s.id = n.id;

DELIMITER //
CREATE TRIGGER numbers_bi BEFORE INSERT ON numbers FOR EACH ROW BEGIN
  IF NEW.a IS NULL THEN SET NEW.a = 0; END IF; -- a comment; with a semicolon
END//
CREATE PROCEDURE results(IN n int) COMMENT 'it''s' BEGIN SELECT id, a FROM numbers WHERE id <= n; END//
CREATE FUNCTION double_it(n int) RETURNS int DETERMINISTIC RETURN n * 2//
DELIMITER ;
