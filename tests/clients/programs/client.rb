# Ruby's Net::FTP: one session. The version in Debian 12 has no implicit TLS.
require "net/ftp"

IN, OUT, TIME = %w[IN OUT TIME].map { |name| ENV.fetch("MATRIX_#{name}") }
PART = 2 * 1024 * 1024 + 17
$stdout.sync = true

Cannot = Class.new(StandardError)

def connect
  version = { "1.2" => OpenSSL::SSL::TLS1_2_VERSION, "1.3" => OpenSSL::SSL::TLS1_3_VERSION }[ENV["MATRIX_TLS"]]
  $ftp = Net::FTP.new(
    ENV["MATRIX_HOST"], port: ENV["MATRIX_PORT"].to_i, username: ENV["MATRIX_USER"],
    password: ENV["MATRIX_PASSWORD"], passive: true, read_timeout: 60, debug_mode: true,
    ssl: { ca_file: ENV["MATRIX_CA"], min_version: version, max_version: version }
  )
end

def step(name)
  yield
  puts "#{name} ok"
rescue Cannot => why
  puts "#{name} none #{why.message}"
rescue StandardError => error
  puts "#{name} fail #{error.class}: #{error.message.gsub(/\s+/, ' ')}"
  connect
end

def put(local, remote)
  $ftp.putbinaryfile("#{IN}/#{local}", remote)
end

def names(name, lines)
  File.write("#{OUT}/#{name}.txt", lines.join("\n"))
end

if ENV["MATRIX_TASK"] == "uploads"
  connect
  (1..20).each { |number| put("medium.bin", format("up-%02d.bin", number)) }
  $ftp.close
  exit
end

step("login") { connect }
step("mkdir") { $ftp.mkdir("made") }
%w[small zero large].each { |name| step(name) { put("#{name}.bin", "made/#{name}.bin") } }
step("two") do
  put("medium.bin", "made/one.bin")
  put("small.bin", "made/two.bin")
end
step("get") { $ftp.getbinaryfile("large.bin", "#{OUT}/large.bin") }
step("list") { names("list", $ftp.list("listed")) }
step("nlst") { names("nlst", $ftp.nlst("listed")) }
step("mlsd") { names("mlsd", $ftp.mlsd("listed").map(&:pathname)) }
$ftp.resume = true
step("resume-get") { $ftp.getbinaryfile("medium.bin", "#{OUT}/medium.bin") }
step("resume-put") { raise Cannot, "Net::FTP resumes uploads with SIZE and APPE" }
step("append") { $ftp.putbinaryfile("#{IN}/medium.bin", "append.bin") }
$ftp.resume = false
step("rename") { $ftp.rename("rename-me", "made/renamed") }
step("time") { $ftp.voidcmd("MFMT #{TIME} made/small.bin") }
step("delete") { $ftp.delete("delete-me") }
step("rmdir") { $ftp.rmdir("remove-me") }
step("abort") do
  catch(:enough) do
    $ftp.retrbinary("RETR large.bin", 65_536) { throw :enough }
  end
rescue Net::FTPTempError
  # 426: what is meant to come.
ensure
  # It sent no ABOR; the session goes on, or a new one.
  connect
  $ftp.pwd
end
$ftp.close
