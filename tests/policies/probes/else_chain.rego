# expect: equal
# opa: false
package envoy.authz
default allow := false
allow := true if { input.a } else := false if { input.b } else := true
