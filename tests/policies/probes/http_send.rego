# expect: refused
# opa: true
package envoy.authz
allow if not blocked
blocked if http.send({"url":"http://x","method":"get"}).status_code == 200
